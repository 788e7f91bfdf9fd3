import { addImage, removeImage, type GalleryImage } from '../state/gallery.ts'
import { imageUses, loadInput } from '../state/load-input.ts'
import { notify, notifyError } from '../state/notices.ts'
import { selectedId } from '../state/selection.ts'
import type { Chosen } from '../state/settings.ts'
import { takeOver } from '../state/take-over.ts'
import { fileSize } from '../state/words.ts'
import { Icon } from './Icon.tsx'
import { IconButton } from './IconButton.tsx'
import { shownSize } from './shown-size.ts'
import { useObjectUrl } from './use-object-url.ts'

/** An image of the gallery, with how it was made and what can be done with it. */
export function ImageView({ image, choice }: { image: GalleryImage; choice: Chosen }) {
  const { id, file, format, width, height, parameters } = image
  const { prompt, seed, model } = image.settings
  const url = useObjectUrl(file)

  const remove = () => {
    void removeImage(id)
    const restore = () => {
      selectedId.value = id
      void addImage(image)
    }
    notify('The image is deleted.', { label: 'Undo', run: restore })
  }
  const copy = () => {
    navigator.clipboard.writeText(parameters).then(() => notify('The parameters are copied.'), notifyError)
  }

  return (
    <>
      <div class="frame">
        <a class="shown" href={url} target="_blank" style={shownSize(width, height)} rel="noopener">
          <img src={url} alt={prompt} />
        </a>
      </div>
      <div class="below">
        <div class="buttons">
          <a class="button" href={url} download={`ggflux-${seed}.${format === 'jpeg' ? 'jpg' : format}`}>
            <Icon name="download" />
            Download
          </a>
          <IconButton
            icon="settings"
            label="Use these settings"
            isLabelled
            onClick={() => takeOver(image.settings, image.isFromImages)}
          />
          {imageUses(choice.model).map(({ label, use }) => (
            <IconButton
              key={label}
              icon="image"
              label={label}
              isLabelled
              onClick={() => void loadInput(file, choice, use)}
            />
          ))}
          <IconButton icon="trash" label="Delete" isLabelled onClick={remove} />
        </div>
        <p class="made">{prompt}</p>
        <p class="facts">
          {model} · {width} × {height} · seed {seed} · {format} · {fileSize(file.size)}
        </p>
        <details>
          <summary>Parameters</summary>
          <pre>{parameters}</pre>
          <IconButton icon="copy" label="Copy" isLabelled onClick={copy} />
        </details>
      </div>
    </>
  )
}
