import { useId } from 'preact/hooks'
import { NumberInput, type NumberRange } from './NumberInput.tsx'

interface Props extends NumberRange {
  label: string
  /** the end of the slider, if the number may be larger than is usual */
  usualMost?: number
  hint?: string
  value: number
  onChange: (value: number) => void
}

/** A number with a slider. */
export function Slider({ label, usualMost, hint, value, onChange, ...range }: Props) {
  const id = useId()
  return (
    <div class="field">
      <div class="slider">
        <label for={id}>{label}</label>
        <input
          type="range"
          aria-label={label}
          min={range.least}
          max={usualMost ?? range.most}
          step={range.step}
          value={value}
          onInput={(event) => onChange(event.currentTarget.valueAsNumber)}
        />
        <NumberInput
          id={id}
          describedBy={hint && `${id}-hint`}
          value={value}
          onChange={(number) => number !== null && onChange(number)}
          {...range}
        />
      </div>
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  )
}
