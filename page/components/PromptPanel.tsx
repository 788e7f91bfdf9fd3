import { useId } from 'preact/hooks'
import { draw, isSending } from '../state/draw.ts'
import { change, settings, type Chosen } from '../state/settings.ts'
import { EXAMPLE } from './example.ts'

const isMac = /Mac|iPhone|iPad/.test(navigator.userAgent)

export function PromptPanel({ choice: { capabilities } }: { choice: Chosen }) {
  const id = useId()
  return (
    <section class="prompt" aria-label="Prompt">
      <label for={id}>Prompt</label>
      <textarea
        id={id}
        rows={4}
        maxLength={capabilities.limits.prompt}
        placeholder={EXAMPLE}
        value={settings.value.prompt}
        onInput={(event) => change({ prompt: event.currentTarget.value })}
      />
      <button type="button" class="button primary draw" disabled={isSending.value} onClick={() => void draw()}>
        {isSending.value ? 'Sending…' : 'Draw'}
        <span class="keys" aria-hidden="true">
          {isMac ? '⌘ ↵' : 'Ctrl ↵'}
        </span>
      </button>
    </section>
  )
}
