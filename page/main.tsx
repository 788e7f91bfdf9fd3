import { render } from 'preact'
import { App } from './components/App.tsx'
import { openGallery } from './state/gallery.ts'
import { openInputs } from './state/inputs.ts'
import { resumeJobs } from './state/jobs.ts'
import { connect } from './state/server.ts'

render(<App />, document.querySelector('#app')!)
void connect()
void openInputs()
void openGallery().then(resumeJobs)
