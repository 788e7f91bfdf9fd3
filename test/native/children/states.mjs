import { setTimeout as sleep } from 'node:timers/promises'
import { FluxTransformer } from '../../../dist/nn.js'
import { anyInput } from '../../support/any-input.mjs'

/** A network in the middle of a call that takes seconds. */
export async function running(path) {
  const flux = await FluxTransformer.load(path)
  const call = flux.predict(anyInput(flux, 64, 512))
  while (flux.memory().mapped > 0) await sleep(1) // the figures are zero while the call runs
  await sleep(200)
  return { flux, call }
}

/** A load that takes the better part of a second, begun but not done. */
export async function loading(path) {
  let progress = 0
  const load = FluxTransformer.load(path, {
    onProgress: (value) => {
      progress = value
    },
  })
  while (progress === 0) await sleep(1)
  if (progress === 1) throw new Error('the model was loaded too quickly for this test')
  return load
}

/** One small evaluation: what a network has to be able to do whatever happened elsewhere. */
export async function smallPrediction(flux) {
  return flux.predict(anyInput(flux, 8, 16))
}
