import { connect, serverError } from '../state/server.ts'

/** Instead of the page, until the server has said what it can do. */
export function Unconnected() {
  return (
    <main class="unconnected">
      {serverError.value ? (
        <>
          <p role="alert">{serverError.value}</p>
          <button type="button" class="button" onClick={() => void connect()}>
            Try again
          </button>
        </>
      ) : (
        <p>Connecting…</p>
      )}
    </main>
  )
}
