import { batch } from '@preact/signals'
import { controlImage, image, mask, references } from './inputs.ts'
import { notify } from './notices.ts'
import { settings, type Settings } from './settings.ts'

/**
 * Replaces all settings by those of an image, so that it can be drawn again.
 *
 * @param isFromImages the image was made from others. If not, the input images are taken away, since they would change the result
 * @param lost what could not be restored, in words
 */
export function takeOver(restored: Settings, isFromImages: boolean, lost: string[] = []): void {
  const inputs = [image, mask, references, controlImage]
  const before = { settings: settings.value, inputs: inputs.map((input) => input.value) }
  batch(() => {
    settings.value = restored
    if (!isFromImages) [image.value, mask.value, references.value, controlImage.value] = [null, null, [], null]
  })
  const undo = () =>
    batch(() => {
      settings.value = before.settings
      inputs.forEach((input, i) => (input.value = before.inputs[i] as never))
    })
  const without = lost.length > 0 ? `, without ${lost.join(', ')}` : ''
  const note = isFromImages ? ' The images that it was made from are not among them.' : ''
  notify(`The settings are restored${without}.${note}`, { label: 'Undo', run: undo })
}
