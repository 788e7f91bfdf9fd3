import { useEffect } from 'preact/hooks'
import { cancelJob, progress, type PageJob } from '../state/jobs.ts'
import { shortTime } from '../state/words.ts'
import { IconButton } from './IconButton.tsx'
import { jobInWords } from './job-in-words.ts'
import { ProgressBar } from './ProgressBar.tsx'
import { shownSize } from './shown-size.ts'

/** A job with its latest preview. */
export function JobView({ job }: { job: PageJob }) {
  const { id, state, width, height, preview, secondsLeft, settings, error } = job
  useEffect(() => {
    document.title = state === 'running' ? `${Math.round(100 * progress(job))} % – ggflux` : 'ggflux'
    return () => {
      document.title = 'ggflux'
    }
  }, [job])
  if (error !== null)
    return (
      <div class="frame blank">
        <p class="lead">The image could not be drawn.</p>
        <p class="failure">{error}</p>
        <IconButton icon="close" label="Dismiss" isLabelled onClick={() => void cancelJob(id)} />
      </div>
    )
  return (
    <>
      <div class="frame">
        <div class="shown" style={shownSize(width, height)}>
          {preview ? <img src={preview} alt={`Preview: ${settings.prompt}`} /> : <div class="latent" />}
        </div>
      </div>
      <div class="below">
        <ProgressBar job={job} />
        <p class="state">
          <span>{jobInWords(job)}</span>
          {state === 'running' && secondsLeft !== null && <span class="hint">{shortTime(secondsLeft)} left</span>}
          <IconButton icon="close" label="Cancel" isLabelled onClick={() => void cancelJob(id)} />
        </p>
        <p class="made">{settings.prompt}</p>
      </div>
    </>
  )
}
