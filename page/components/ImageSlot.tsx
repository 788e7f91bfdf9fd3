import type { TargetedEvent } from 'preact'
import type { InputImage } from '../images/input-image.ts'
import type { Mask } from '../images/mask.ts'
import { imageAmong } from './image-among.ts'
import { Icon } from './Icon.tsx'
import { IconButton } from './IconButton.tsx'
import { useObjectUrl } from './use-object-url.ts'

interface Props {
  label: string
  image: InputImage | null
  mask?: Mask | null
  onFile: (file: File) => void
  onRemove?: () => void
}

/** A place for an image, by file chooser or drop. */
export function ImageSlot({ label, image, mask, onFile, onRemove }: Props) {
  const choose = ({ currentTarget }: TargetedEvent<HTMLInputElement>) => {
    const file = currentTarget.files?.[0]
    // the same file may be chosen again
    currentTarget.value = ''
    if (file) onFile(file)
  }
  const drop = (event: DragEvent) => {
    const file = imageAmong(event.dataTransfer)
    if (!file) return
    event.preventDefault()
    onFile(file)
  }
  return (
    <div class="slot">
      <label>
        <input
          type="file"
          accept="image/*"
          aria-label={image ? `${label}: replace` : label}
          onChange={choose}
          onDrop={drop}
        />
        {image ? (
          <Shown image={image} mask={mask} />
        ) : (
          <span class="empty">
            <Icon name="image" />
            {label}
          </span>
        )}
      </label>
      {image && onRemove && <IconButton icon="close" label="Remove the image" onClick={onRemove} />}
    </div>
  )
}

function Shown({ image, mask }: { image: InputImage; mask?: Mask | null }) {
  const url = useObjectUrl(image.file)
  return (
    <>
      <span class="masked">
        <img src={url} alt="" />
        {mask && <MaskTint mask={mask} />}
      </span>
      <span class="facts">
        {image.width} × {image.height}
      </span>
    </>
  )
}

function MaskTint({ mask }: { mask: Mask }) {
  return <span class="mask-tint" style={{ maskImage: `url(${useObjectUrl(mask.file)})` }} />
}
