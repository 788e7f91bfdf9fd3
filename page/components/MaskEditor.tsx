import { useState } from 'preact/hooks'
import type { InputImage } from '../images/input-image.ts'
import { renderMask, type MaskEdit } from '../images/mask.ts'
import { mask } from '../state/inputs.ts'
import { Dialog } from './Dialog.tsx'
import { IconButton } from './IconButton.tsx'
import { MaskCanvas } from './MaskCanvas.tsx'
import { Slider } from './Slider.tsx'

/** Paints over the image what is drawn anew. */
export function MaskEditor({ image, onClose }: { image: InputImage; onClose: () => void }) {
  const longest = Math.max(image.width, image.height)
  const [edits, setEdits] = useState<MaskEdit[]>(mask.value?.edits ?? [])
  const [undone, setUndone] = useState<MaskEdit[]>([])
  const [isErasing, setErasing] = useState(false)
  const [size, setSize] = useState(Math.ceil(longest / 10))

  const add = (edit: MaskEdit) => {
    setEdits([...edits, edit])
    setUndone([])
  }
  const undo = () => {
    if (edits.length === 0) return
    setEdits(edits.slice(0, -1))
    setUndone([...undone, edits.at(-1)!])
  }
  const redo = () => {
    if (undone.length === 0) return
    setEdits([...edits, undone.at(-1)!])
    setUndone(undone.slice(0, -1))
  }
  const finish = async () => {
    mask.value = await renderMask(edits, image.width, image.height)
    onClose()
  }
  const press = (event: KeyboardEvent) => {
    const key = event.key.toLowerCase()
    if ((event.ctrlKey || event.metaKey) && (key === 'z' || key === 'y')) {
      event.preventDefault()
      if (key === 'y' || event.shiftKey) redo()
      else undo()
    } else if (key === 'b' || key === 'e') setErasing(key === 'e')
    else if (key === '[') setSize(Math.max(1, Math.floor(size / 1.25)))
    else if (key === ']') setSize(Math.min(longest, Math.ceil(size * 1.25)))
  }

  return (
    <Dialog title="Mask" class="mask-editor" onClose={() => void finish()} onKeyDown={press}>
      <div class="mask-body">
        <div class="mask-tools" role="toolbar" aria-label="Mask tools">
          <IconButton icon="brush" label="Brush (B)" isPressed={!isErasing} onClick={() => setErasing(false)} />
          <IconButton icon="erase" label="Erase (E)" isPressed={isErasing} onClick={() => setErasing(true)} />
          <Slider
            label="Size"
            least={1}
            most={longest}
            usualMost={Math.ceil(longest / 2)}
            step={1}
            value={size}
            onChange={setSize}
          />
          <IconButton icon="undo" label="Undo (Ctrl+Z)" isDisabled={edits.length === 0} onClick={undo} />
          <IconButton icon="redo" label="Redo (Ctrl+Y)" isDisabled={undone.length === 0} onClick={redo} />
          <IconButton icon="invert" label="Invert" onClick={() => add({ kind: 'invert' })} />
          <IconButton icon="trash" label="Clear" onClick={() => add({ kind: 'clear' })} />
          <button type="button" class="button primary" onClick={() => void finish()}>
            Done
          </button>
        </div>
        <MaskCanvas
          image={image}
          edits={edits}
          size={size}
          isErasing={isErasing}
          onStroke={(points) => add({ kind: 'stroke', isErasing, size, points })}
        />
        <p class="hint">
          Paint what is drawn anew.{' '}
          <span class="keys">
            With the keyboard, arrows move the brush and Space puts it down or lifts it; [ and ] change its size.
          </span>
        </p>
      </div>
    </Dialog>
  )
}
