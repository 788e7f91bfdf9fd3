import { useId, useState } from 'preact/hooks'
import { answerKey, keyQuestion } from '../state/api-key.ts'
import { Dialog } from './Dialog.tsx'

/** Asks for the API key when the server refuses a request. */
export function KeyDialog() {
  const id = useId()
  const [key, setKey] = useState('')
  const question = keyQuestion.value
  if (!question) return null
  return (
    <Dialog title="API key" onClose={() => answerKey(undefined)}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          answerKey(key.trim())
          setKey('')
        }}
      >
        <p id={`${id}-hint`}>
          {question.wasRefused
            ? 'The server refuses this key. Enter the one that it was started with.'
            : 'This server wants a key. Enter the one that it was started with. It is kept in this browser.'}
        </p>
        <div class="field">
          <label for={id}>Key</label>
          <input
            id={id}
            type="password"
            autoComplete="current-password"
            aria-describedby={`${id}-hint`}
            required
            value={key}
            onInput={(event) => setKey(event.currentTarget.value)}
          />
        </div>
        <footer>
          <button type="submit" class="button primary">
            Use this key
          </button>
        </footer>
      </form>
    </Dialog>
  )
}
