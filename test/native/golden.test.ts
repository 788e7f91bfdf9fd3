import { onTestBackend } from '../support/backend.js'
import { testGolden } from '../support/golden-suite.js'

testGolden(`on ${onTestBackend.backend}`, onTestBackend)
