import { change, settings } from '../state/settings.ts'
import { IconButton } from './IconButton.tsx'
import { Slider } from './Slider.tsx'

/** @param names the LoRAs that the server has */
export function LoraSettings({ names }: { names: string[] }) {
  const { loras } = settings.value
  const unused = names.filter((name) => !loras.some((lora) => lora.name === name))
  return (
    <fieldset class="group">
      <legend>LoRAs</legend>
      {loras.map(({ name, scale }) => (
        <div key={name} class="lora">
          <Slider
            label={name}
            least={-4}
            most={4}
            usualMost={2}
            step={0.05}
            value={scale}
            onChange={(value) =>
              change({ loras: loras.map((lora) => (lora.name === name ? { name, scale: value } : lora)) })
            }
          />
          <IconButton
            icon="close"
            label={`Remove ${name}`}
            onClick={() => change({ loras: loras.filter((lora) => lora.name !== name) })}
          />
        </div>
      ))}
      {unused.length > 0 && (
        <select
          aria-label="Add a LoRA"
          value=""
          onChange={({ currentTarget }) => {
            change({ loras: [...loras, { name: currentTarget.value, scale: 1 }] })
            currentTarget.value = ''
          }}
        >
          <option value="">Add a LoRA…</option>
          {unused.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      )}
    </fieldset>
  )
}
