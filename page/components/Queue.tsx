import { cancelJob, jobs } from '../state/jobs.ts'
import { selectedId } from '../state/selection.ts'
import { shownJob } from '../state/shown.ts'
import { Icon } from './Icon.tsx'
import { IconButton } from './IconButton.tsx'
import { jobInWords } from './job-in-words.ts'
import { ProgressBar } from './ProgressBar.tsx'

/** The jobs of this browser that wait, run, or failed. */
export function Queue() {
  if (jobs.value.length === 0) return null
  return (
    <section class="queue" aria-label="Queue">
      <h2>Queue</h2>
      <ul>
        {jobs.value.map((job) => (
          <li key={job.id}>
            <button
              type="button"
              class="job"
              aria-current={job === shownJob.value}
              onClick={() => (selectedId.value = job.id)}
            >
              {job.preview ? <img src={job.preview} alt="" /> : <Icon name={job.error === null ? 'wait' : 'close'} />}
              <span class="prompt-line">{job.settings.prompt}</span>
              <span class="hint">{jobInWords(job)}</span>
            </button>
            <IconButton
              icon="close"
              label={job.error === null ? 'Cancel' : 'Dismiss'}
              onClick={() => void cancelJob(job.id)}
            />
            {job.state === 'running' && <ProgressBar job={job} />}
          </li>
        ))}
      </ul>
    </section>
  )
}
