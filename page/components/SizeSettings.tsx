import { useId } from 'preact/hooks'
import { image, references } from '../state/inputs.ts'
import { change, settings, type Chosen } from '../state/settings.ts'
import { aspectSizes, type Size } from './aspect-sizes.ts'
import { IconButton } from './IconButton.tsx'
import { NumberInput } from './NumberInput.tsx'

const SIDES = { least: 64, most: 4096, step: 16 }

export function SizeSettings({ choice: { model } }: { choice: Chosen }) {
  const id = useId()
  const { width, height } = settings.value
  // without a size of its own, the drawing has that of the image it is made from
  const source = image.value ?? (model.reads === 'references' ? references.value[0] : undefined)
  const isFree = width === null && height === null
  const shown: Size = { width: width ?? model.defaults.width, height: height ?? model.defaults.height }
  // references are brought to a size that the model knows
  const placeholder = image.value
    ? { width: String(image.value.width), height: String(image.value.height) }
    : source && { width: 'auto', height: 'auto' }
  const sizes = aspectSizes(model.defaults, shown.height > shown.width)
  return (
    <fieldset class="group">
      <legend>Size</legend>
      <div class="aspects">
        {sizes.map((size) => (
          <button
            key={size.name}
            type="button"
            class="aspect"
            aria-label={`${size.name}, ${size.width} by ${size.height}`}
            aria-pressed={!(source && isFree) && size.width === shown.width && size.height === shown.height}
            onClick={() => change({ width: size.width, height: size.height })}
          >
            <AspectShape {...size} />
            {size.name}
          </button>
        ))}
      </div>
      <div class="size">
        <label for={`${id}-width`}>Width</label>
        <NumberInput
          id={`${id}-width`}
          {...SIDES}
          value={source && isFree ? null : shown.width}
          placeholder={placeholder?.width}
          onChange={(value) => change({ width: value })}
        />
        <IconButton
          icon="swap"
          label="Swap width and height"
          onClick={() => change({ width: shown.height, height: shown.width })}
        />
        <label for={`${id}-height`}>Height</label>
        <NumberInput
          id={`${id}-height`}
          {...SIDES}
          value={source && isFree ? null : shown.height}
          placeholder={placeholder?.height}
          onChange={(value) => change({ height: value })}
        />
      </div>
      {source && (
        <button
          type="button"
          class="button"
          aria-pressed={isFree}
          onClick={() => change(isFree ? { width: shown.width, height: shown.height } : { width: null, height: null })}
        >
          As the input image
        </button>
      )}
    </fieldset>
  )
}

/** A rectangle of the aspect, in a square of 20. */
function AspectShape({ width, height }: Size) {
  const scale = 18 / Math.max(width, height)
  const [w, h] = [width * scale, height * scale]
  return (
    <svg viewBox="0 0 20 20" aria-hidden="true">
      <rect x={10 - w / 2} y={10 - h / 2} width={w} height={h} rx="2" />
    </svg>
  )
}
