// The utility process that makes the images. Each request brings a port: events go out on it, and closing it cancels.
import { FluxPipeline } from 'ggflux'

/** @type {Promise<FluxPipeline> | undefined} */
let loading

process.parentPort.on('message', async ({ data: options, ports: [port] }) => {
  const controller = new AbortController()
  const { signal } = controller
  // by the page's cancel button, and when its window is closed or reloaded
  port.once('close', () => controller.abort())
  port.start()
  try {
    // 'tiny' comes with ggflux; your users' models belong in app.getPath('userData')
    const pipe = await (loading ??= FluxPipeline.load('tiny'))
    for await (const event of pipe.stream({ ...options, preview: { every: 1 }, signal })) port.postMessage(event)
  } catch (error) {
    // the page closes the port when it has this, or the image
    const { code, message } = /** @type {Error & { code?: string }} */ (error)
    if (!signal.aborted) port.postMessage({ type: 'error', code, message })
  }
})
