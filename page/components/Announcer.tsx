import { announcement } from '../state/announcement.ts'

/** Read by screen readers, not shown. */
export function Announcer() {
  return (
    <div class="hidden" role="status">
      {announcement.value}
    </div>
  )
}
