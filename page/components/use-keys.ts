import { useEffect } from 'preact/hooks'
import { draw } from '../state/draw.ts'
import { cancelJob, jobs } from '../state/jobs.ts'
import { shownJob } from '../state/shown.ts'

/** Ctrl+Enter draws. Esc cancels the job on the stage, else the first one; an open dialog closes itself with it. */
export function useKeys(): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.isComposing || event.defaultPrevented || document.querySelector('dialog[open]')) return
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
        event.preventDefault()
        void draw()
      }
      if (event.key === 'Escape') {
        const job = shownJob.value ?? jobs.value[0]
        if (job) void cancelJob(job.id)
      }
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  }, [])
}
