import type { Parameters } from '../server/wire.ts'
import { imageUses, loadInput } from '../state/load-input.ts'
import { restoreSettings } from '../state/restore.ts'
import type { Chosen } from '../state/settings.ts'
import { Dialog } from './Dialog.tsx'
import { useObjectUrl } from './use-object-url.ts'

export interface DroppedImage {
  file: File
  /** null if the image does not say how it was made */
  parameters: Parameters | null
}

interface Props {
  dropped: DroppedImage
  choice: Chosen
  onClose: () => void
}

const WRITERS = { ggflux: 'ggflux', a1111: 'A1111 or Forge', comfyui: 'ComfyUI' }

/** Asks what a dropped image is for. */
export function DropDialog({ dropped: { file, parameters }, choice, onClose }: Props) {
  const url = useObjectUrl(file)
  return (
    <Dialog title="Use this image" class="drop" onClose={onClose}>
      <img src={url} alt={file.name} />
      {parameters?.writer ? (
        <>
          <p class="made">{String(parameters.options.prompt ?? 'no prompt')}</p>
          <p class="hint">Made by {WRITERS[parameters.writer]}, with its settings inside.</p>
        </>
      ) : (
        <p class="hint">This image does not contain settings.</p>
      )}
      <footer>
        {parameters && (
          <button
            type="button"
            class="button primary"
            onClick={() => {
              restoreSettings(parameters, choice)
              onClose()
            }}
          >
            Restore its settings
          </button>
        )}
        {imageUses(choice.model).map(({ label, use }) => (
          <button
            key={label}
            type="button"
            class="button"
            onClick={() => {
              void loadInput(file, choice, use)
              onClose()
            }}
          >
            {label}
          </button>
        ))}
      </footer>
    </Dialog>
  )
}
