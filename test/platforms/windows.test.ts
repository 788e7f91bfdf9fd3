import { testPlatform } from '../support/platform-check.js'

testPlatform('ggflux for Windows, compiled by mingw-w64, works under wine', 'windows-check.mjs')
