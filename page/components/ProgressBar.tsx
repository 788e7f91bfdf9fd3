import { progress, type PageJob } from '../state/jobs.ts'
import { jobInWords } from './job-in-words.ts'

export function ProgressBar({ job }: { job: PageJob }) {
  const share = progress(job)
  return (
    <div
      class="progress"
      role="progressbar"
      aria-label={`Progress of ${job.settings.prompt}`}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * share)}
      aria-valuetext={jobInWords(job)}
    >
      <div style={{ scale: `${share} 1` }} />
    </div>
  )
}
