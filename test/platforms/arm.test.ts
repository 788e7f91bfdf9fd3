import { testPlatform } from '../support/platform-check.js'

testPlatform('ggflux for Linux on Arm has the reference results in qemu', 'arm-check.mjs')
