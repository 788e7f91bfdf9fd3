import { dismiss, notices } from '../state/notices.ts'
import { IconButton } from './IconButton.tsx'

/** What went wrong and what is worth knowing, at the bottom of the page. */
export function Notices() {
  return (
    <div class="notices">
      {notices.value.map(({ id, kind, text, action }) => (
        <div key={id} class={`notice ${kind}`} role={kind === 'error' ? 'alert' : 'status'}>
          <p>{text}</p>
          {action && (
            <button
              type="button"
              class="button"
              onClick={() => {
                dismiss(id)
                action.run()
              }}
            >
              {action.label}
            </button>
          )}
          <IconButton icon="close" label="Dismiss" onClick={() => dismiss(id)} />
        </div>
      ))}
    </div>
  )
}
