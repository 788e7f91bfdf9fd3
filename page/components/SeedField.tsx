import { useId } from 'preact/hooks'
import { change, randomSeed, settings } from '../state/settings.ts'
import { IconButton } from './IconButton.tsx'
import { NumberInput } from './NumberInput.tsx'

export function SeedField() {
  const id = useId()
  const { seed, isSeedLocked } = settings.value
  return (
    <div class="field">
      <div class="seed">
        <label for={id}>Seed</label>
        <NumberInput
          id={id}
          describedBy={`${id}-hint`}
          least={0}
          most={Number.MAX_SAFE_INTEGER}
          step={1}
          value={seed}
          onChange={(value) => value !== null && change({ seed: value, isSeedLocked: true })}
        />
        <IconButton icon="dice" label="Another seed" onClick={() => change({ seed: randomSeed() })} />
        <IconButton
          icon={isSeedLocked ? 'lock' : 'unlock'}
          label="Keep the seed"
          isPressed={isSeedLocked}
          onClick={() => change({ isSeedLocked: !isSeedLocked })}
        />
      </div>
      <p class="hint" id={`${id}-hint`}>
        {isSeedLocked ? 'Kept: the same settings give the same image.' : 'A new one for each drawing.'}
      </p>
    </div>
  )
}
