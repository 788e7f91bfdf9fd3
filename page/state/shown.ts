import { computed } from '@preact/signals'
import { gallery } from './gallery.ts'
import { jobs } from './jobs.ts'
import { selectedId } from './selection.ts'

/** The job on the stage. */
export const shownJob = computed(() => jobs.value.find(({ id }) => id === selectedId.value))

/** The image on the stage: the newest one, unless another or a job is selected. */
export const shownImage = computed(() =>
  shownJob.value ? undefined : (gallery.value.find(({ id }) => id === selectedId.value) ?? gallery.value[0]),
)
