import { onAllThreads } from '../support/backend.js'
import { testGolden } from '../support/golden-suite.js'

testGolden(`on ${onAllThreads.backend}`, onAllThreads)
