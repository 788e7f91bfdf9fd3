import { useId } from 'preact/hooks'
import { change, settings } from '../state/settings.ts'
import { Slider } from './Slider.tsx'

export function NegativePrompt() {
  const id = useId()
  const { negativePrompt, trueCfg } = settings.value
  const isOff = trueCfg <= 1
  return (
    <fieldset class="group">
      <legend>Negative prompt</legend>
      <Slider
        label="True CFG"
        least={1}
        most={100}
        usualMost={10}
        step={0.1}
        value={trueCfg}
        onChange={(value) => change({ trueCfg: value })}
      />
      <textarea
        rows={2}
        aria-label="Negative prompt"
        aria-describedby={id}
        placeholder="what the image should not show"
        disabled={isOff}
        value={negativePrompt}
        onInput={(event) => change({ negativePrompt: event.currentTarget.value })}
      />
      <p class="hint" id={id}>
        {isOff
          ? 'It acts when true CFG is above 1. Each step then takes twice as long.'
          : 'Each step takes twice as long.'}
      </p>
    </fieldset>
  )
}
