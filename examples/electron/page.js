// The page. `ggflux` is what preload.cjs gives it.
const page = Object.fromEntries(
  ['form', 'prompt', 'draw', 'cancel', 'status', 'preview', 'image'].map((id) => [id, document.getElementById(id)]),
)
let cancelImage = () => {}

page.form.addEventListener('submit', (submit) => {
  submit.preventDefault()
  begin()
  cancelImage = ggflux.generate({ prompt: page.prompt.value }, (event) => {
    if (event.type === 'stage') page.status.textContent = event.stage
    if (event.type === 'step') {
      page.status.textContent = `step ${event.step} of ${event.steps}`
      showPreview(event.preview)
    }
    if (event.type === 'image') {
      showImage(event.image)
      end(`seed ${event.seed}`)
    }
    if (event.type === 'error') end(event.message)
  })
})

page.cancel.addEventListener('click', () => {
  cancelImage()
  end('cancelled')
})

function begin() {
  page.draw.disabled = true
  page.cancel.disabled = false
  page.status.textContent = 'waiting'
}

function end(text) {
  page.draw.disabled = false
  page.cancel.disabled = true
  page.status.textContent = text
}

/** RGB bytes, one pixel for 8 x 8 of the image; CSS enlarges them. */
function showPreview({ data, width, height }) {
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255)
  for (let i = 0; i < width * height; i++) rgba.set(data.subarray(3 * i, 3 * i + 3), 4 * i)
  Object.assign(page.preview, { width, height, hidden: false })
  page.image.hidden = true
  page.preview.getContext('2d').putImageData(new ImageData(rgba, width, height), 0, 0)
}

function showImage(png) {
  URL.revokeObjectURL(page.image.src)
  page.image.src = URL.createObjectURL(new Blob([png], { type: 'image/png' }))
  Object.assign(page.image, { alt: page.prompt.value, hidden: false })
  page.preview.hidden = true
}
