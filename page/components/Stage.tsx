import { change, type Chosen } from '../state/settings.ts'
import { shownImage, shownJob } from '../state/shown.ts'
import { EXAMPLE } from './example.ts'
import { ImageView } from './ImageView.tsx'
import { JobView } from './JobView.tsx'

/** The large view of what is drawn, or of an image of the gallery. */
export function Stage({ choice }: { choice: Chosen }) {
  const job = shownJob.value
  const image = shownImage.value
  return (
    <section class="stage" aria-label="Image">
      {job ? <JobView job={job} /> : image ? <ImageView image={image} choice={choice} /> : <Empty />}
    </section>
  )
}

function Empty() {
  return (
    <div class="frame blank">
      <p class="lead">Write what the image shows, then draw it.</p>
      <button type="button" class="example" onClick={() => change({ prompt: EXAMPLE })}>
        <span>Try</span> {EXAMPLE}
      </button>
      <p class="hint">Drop an image anywhere to change it, or to draw it again with its settings.</p>
    </div>
  )
}
