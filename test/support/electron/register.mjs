// node --import this: what the program knows as `electron` is the stand-in beside this file.
import { register } from 'node:module'

register('./resolve.mjs', import.meta.url)
