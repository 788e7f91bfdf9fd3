import { useId } from 'preact/hooks'

interface Props<Value extends string> {
  label: string
  values: readonly Value[]
  value: Value | null
  /** the text of the choice that leaves the value to the server */
  none?: string
  onChange: (value: Value | null) => void
}

/** One of several names. */
export function Choice<Value extends string>({ label, values, value, none, onChange }: Props<Value>) {
  const id = useId()
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value ?? ''} onChange={(event) => onChange((event.currentTarget.value || null) as Value)}>
        {none !== undefined && <option value="">{none}</option>}
        {values.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </div>
  )
}
