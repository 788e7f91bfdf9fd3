import { change, resetSettings, settings, type Chosen } from '../state/settings.ts'
import { Choice } from './Choice.tsx'
import { IconButton } from './IconButton.tsx'
import { ImageSettings } from './ImageSettings.tsx'
import { LoraSettings } from './LoraSettings.tsx'
import { NegativePrompt } from './NegativePrompt.tsx'
import { OtherSettings } from './OtherSettings.tsx'
import { SeedField } from './SeedField.tsx'
import { SizeSettings } from './SizeSettings.tsx'
import { Slider } from './Slider.tsx'

export function SettingsPanel({ choice }: { choice: Chosen }) {
  const { capabilities, model } = choice
  const { steps, guidance, count, sampler, scheduler, format, quality } = settings.value
  return (
    <section class="settings" aria-label="Settings">
      <ImageSettings choice={choice} />
      <SizeSettings choice={choice} />
      <fieldset class="group">
        <legend>Drawing</legend>
        <Slider
          label="Steps"
          least={1}
          most={capabilities.limits.steps}
          usualMost={Math.min(50, capabilities.limits.steps)}
          step={1}
          value={steps ?? model.defaults.steps}
          onChange={(value) => change({ steps: value })}
        />
        {model.defaults.guidance !== null && (
          <Slider
            label="Guidance"
            least={0}
            most={100}
            usualMost={Math.max(10, model.defaults.guidance * 2)}
            step={0.1}
            value={guidance ?? model.defaults.guidance}
            onChange={(value) => change({ guidance: value })}
          />
        )}
        <SeedField />
        <Slider
          label="Images"
          least={1}
          most={capabilities.limits.count}
          step={1}
          value={count}
          onChange={(value) => change({ count: value })}
        />
      </fieldset>
      <NegativePrompt />
      {capabilities.loras.length > 0 && <LoraSettings names={capabilities.loras.map(({ name }) => name)} />}
      <details class="group">
        <summary>Sampler and file</summary>
        <div class="pair">
          <Choice
            label="Sampler"
            values={capabilities.samplers}
            value={sampler}
            none="default"
            onChange={(value) => change({ sampler: value })}
          />
          <Choice
            label="Scheduler"
            values={capabilities.schedulers}
            value={scheduler}
            none="default"
            onChange={(value) => change({ scheduler: value })}
          />
        </div>
        <Choice
          label="Format"
          values={capabilities.formats}
          value={format}
          onChange={(value) => value && change({ format: value })}
        />
        {format !== 'png' && (
          <Slider
            label="Quality"
            least={1}
            most={100}
            step={1}
            value={quality ?? 90}
            onChange={(value) => change({ quality: value })}
          />
        )}
      </details>
      <OtherSettings />
      <IconButton icon="reset" label="Reset all settings" isLabelled onClick={resetSettings} />
    </section>
  )
}
