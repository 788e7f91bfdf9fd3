// What a user does with the window of examples/electron. Tells on stdout what was seen, as JSON lines.
import { setTimeout as pause } from 'node:timers/promises'

/** hours of work */
const ENDLESS = { prompt: 'an endless picture', width: 1024, height: 1024, steps: 1000 }

export async function play({ elements, canvas, exposed, bytesOf }, painters) {
  const tell = (value) => console.log(JSON.stringify(value))
  const until = async (condition) => {
    while (!condition()) await pause(5)
  }
  const draw = async () => {
    elements.form.dispatch('submit')
    tell({
      waiting: { status: elements.status.textContent, draw: elements.draw.disabled, cancel: elements.cancel.disabled },
    })
    await until(() => !elements.draw.disabled)
  }
  /** `first` waits for an event by its type, or by its stage */
  const begin = (options) => {
    const events = []
    const cancel = exposed.ggflux.generate(options, (event) => events.push(event))
    const some = (expected) => until(() => events.some(({ type, stage }) => expected === type || expected === stage))
    return { events, cancel, first: some }
  }
  const picture = async () => {
    const { alt, hidden, src } = elements.image
    return { status: elements.status.textContent, alt, hidden, png: (await bytesOf(src)).toString('base64') }
  }

  tell({ before: painters().length })
  await draw()
  tell({ previews: canvas.map(({ width, height, data }) => [width, height, data.length]), picture: await picture() })
  const [first] = painters()

  const wrong = begin({ prompt: 'a', width: 100 })
  await wrong.first('error')
  tell({ wrong: wrong.events })

  const cancelled = begin(ENDLESS)
  await cancelled.first('denoise')
  // well inside of a step
  await pause(200)
  cancelled.cancel()
  const seen = cancelled.events.length
  // the pipeline makes one picture at a time: this one would wait for hours
  await draw()
  tell({ afterCancel: await picture(), late: cancelled.events.length - seen })

  elements.form.dispatch('submit')
  elements.cancel.dispatch('click')
  tell({ cancelledByButton: elements.status.textContent, draw: elements.draw.disabled })

  const crashed = begin(ENDLESS)
  await crashed.first('denoise')
  process.kill(first, 'SIGKILL')
  await crashed.first('error')
  tell({ crashed: crashed.events.at(-1) })
  await until(() => painters().length === 0)
  await draw()
  tell({ afterCrash: await picture(), another: painters()[0] !== first })

  // the window is closed while a picture is made
  const last = begin(ENDLESS)
  await last.first('denoise')
  tell({ last: painters() })
}
