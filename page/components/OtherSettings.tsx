import { change, settings } from '../state/settings.ts'
import { IconButton } from './IconButton.tsx'

/** Options of a restored image that the page has no control for. */
export function OtherSettings() {
  const { others } = settings.value
  const entries = Object.entries(others)
  if (entries.length === 0) return null
  return (
    <fieldset class="group">
      <legend>From the restored image</legend>
      {entries.map(([name, value]) => (
        <div key={name} class="other">
          <code>
            {name}: {JSON.stringify(value)}
          </code>
          <IconButton
            icon="close"
            label={`Remove ${name}`}
            onClick={() => change({ others: Object.fromEntries(entries.filter(([other]) => other !== name)) })}
          />
        </div>
      ))}
    </fieldset>
  )
}
