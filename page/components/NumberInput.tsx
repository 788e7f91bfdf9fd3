import { useState } from 'preact/hooks'

export interface NumberRange {
  least: number
  most: number
  /** values are multiples of it */
  step: number
}

interface Props extends NumberRange {
  id?: string
  label?: string
  describedBy?: string
  /** null shows the placeholder */
  value: number | null
  placeholder?: string
  onChange: (value: number | null) => void
}

/** A number that may be typed digit by digit: it counts once it is valid, and the nearest valid one when the field is left. */
export function NumberInput({ id, label, describedBy, value, placeholder, onChange, ...range }: Props) {
  const [typed, setTyped] = useState<string | null>(null)
  const { least, most, step } = range

  const type = (text: string) => {
    setTyped(text)
    const number = Number(text)
    if (text !== '' && nearest(number, range) === number) onChange(number)
  }
  const leave = () => {
    if (typed === null) return
    setTyped(null)
    if (typed === '' && placeholder !== undefined) onChange(null)
    else if (typed !== '' && !Number.isNaN(Number(typed))) onChange(nearest(Number(typed), range))
  }

  return (
    <input
      id={id}
      type="number"
      inputMode="decimal"
      aria-label={label}
      aria-describedby={describedBy}
      min={least}
      max={most}
      step={step}
      value={typed ?? value ?? ''}
      placeholder={placeholder}
      onInput={(event) => type(event.currentTarget.value)}
      onBlur={leave}
      onKeyDown={(event) => event.key === 'Enter' && leave()}
    />
  )
}

export function nearest(value: number, { least, most, step }: NumberRange): number {
  const multiple = Number((Math.round(value / step) * step).toFixed(6))
  return Math.min(most, Math.max(least, multiple))
}
