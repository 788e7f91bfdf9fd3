import { changeModel, type Chosen } from '../state/settings.ts'
import { THEMES, theme, type Theme } from '../state/theme.ts'
import type { IconName } from './Icon.tsx'
import { IconButton } from './IconButton.tsx'

const ICONS: Record<Theme, IconName> = { system: 'auto', light: 'sun', dark: 'moon' }

export function Header({ choice }: { choice: Chosen | null }) {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!
  return (
    <header class="header">
      <h1>
        <svg class="logo" viewBox="0 0 16 16" aria-hidden="true">
          <rect x="6" y="3" width="10" height="10" rx="1.5" />
          <circle cx="4.5" cy="8" r="3.5" />
        </svg>
        ggflux
      </h1>
      {choice && (
        <label class="model">
          <span>Model</span>
          <select value={choice.model.id} onChange={(event) => changeModel(event.currentTarget.value)}>
            {choice.models.map(({ id }) => (
              <option key={id} value={id}>
                {id}
              </option>
            ))}
          </select>
        </label>
      )}
      <IconButton
        icon={ICONS[theme.value]}
        label={`Colours: ${theme.value}. Change to ${next}`}
        onClick={() => (theme.value = next)}
      />
    </header>
  )
}
