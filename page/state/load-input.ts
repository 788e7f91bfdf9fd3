import { readInputImage, type InputImage } from '../images/input-image.ts'
import type { Model } from '../server/wire.ts'
import { controlImage, references, setImage } from './inputs.ts'
import { notify, notifyError } from './notices.ts'
import type { Chosen } from './settings.ts'

/** What a model does with an image that it is given. */
export interface ImageUse {
  label: string
  use: (image: InputImage) => void
}

export function imageUses({ reads }: Model): ImageUse[] {
  const uses: ImageUse[] = [{ label: 'Use as input image', use: setImage }]
  if (reads === 'references')
    uses.push({
      label: 'Use as reference image',
      use: (image) => (references.value = [...references.value, image]),
    })
  if (reads === 'control') uses.push({ label: 'Use as control image', use: (image) => (controlImage.value = image) })
  return uses
}

/** Reads a file for one of the uses. Says what is wrong with it. */
export async function loadInput(file: Blob, { capabilities }: Chosen, use: (image: InputImage) => void): Promise<void> {
  try {
    const image = await readInputImage(file, capabilities.limits.pixels)
    if (image.wasReduced)
      notify(`The image was reduced to ${image.width} × ${image.height}, which is what the server takes.`)
    use(image)
  } catch (error) {
    notifyError(error)
  }
}
