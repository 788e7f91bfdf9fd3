import { onAllThreads } from '../support/backend.js'
import { testAttachments } from '../support/attachments-suite.js'

testAttachments(`on ${onAllThreads.backend}`, onAllThreads)
