// Takes the screenshots of docs/server.md with a real server and browser: node scripts/page-screenshots.mjs [/usr/bin/chromium]
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'
import sharp from 'sharp'
import { createServer } from '../dist/server/index.js'

const folder = fileURLToPath(new URL('../docs/gallery/', import.meta.url))
const server = await createServer({ port: 0, logLevel: 'silent', load: { backend: 'cpu' } })
const url = await server.listen()
const browser = await chromium.launch({
  executablePath: process.argv[2] ?? '/usr/bin/chromium',
  args: ['--no-sandbox'],
})

const PROMPTS = [
  'a small red circle left of a large blue square on a white background',
  'a large green triangle on a black background',
  'a yellow square above a red circle on a white background',
  'a yellow star above a purple heart on a dark blue background',
]

/** @param {object} options */
async function open(options) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })).newPage()
  await page.goto(url)
  return page
}

/** @param {import('playwright-core').Page} page @param {string} prompt */
async function draw(page, prompt) {
  const tiles = page.getByRole('region', { name: 'Gallery' }).getByRole('listitem')
  const before = await tiles.count()
  await page.getByRole('textbox', { name: 'Prompt', exact: true }).fill(prompt)
  await page.keyboard.press('Control+Enter')
  return () => tiles.nth(before).waitFor()
}

/** @param {import('playwright-core').Page} page @param {string} name */
async function keep(page, name) {
  await sharp(await page.screenshot())
    .webp({ quality: 85 })
    .toFile(`${folder}${name}.webp`)
}

const light = await open({ colorScheme: 'light' })
for (const prompt of PROMPTS) await (await draw(light, prompt))()
await light.waitForTimeout(500)
await keep(light, 'page-light')

const dark = await open({ colorScheme: 'dark' })
for (const prompt of PROMPTS.slice(1, 3)) await (await draw(dark, prompt))()
for (const [name, value] of [
  ['Width', '256'],
  ['Height', '256'],
  ['Steps', '40'],
])
  await dark.getByRole('spinbutton', { name, exact: true }).fill(value)
await draw(dark, PROMPTS[0])
await draw(dark, PROMPTS[3])
await dark
  .getByRole('region', { name: 'Queue' })
  .getByText(/^a small red/)
  .click()
await dark
  .getByText(/step [23]\d of 40/)
  .first()
  .waitFor()
await keep(dark, 'page-drawing')

const mask = await open({ colorScheme: 'light' })
await (await draw(mask, PROMPTS[0]))()
await mask.getByRole('button', { name: 'Use as input image' }).click()
await mask.getByRole('button', { name: 'Paint mask' }).click()
const canvas = await mask.getByRole('application', { name: 'Mask over the image' }).boundingBox()
await mask.getByRole('spinbutton', { name: 'Size', exact: true }).fill('24')
for (let y = 0.35; y < 0.66; y += 0.06) {
  await mask.mouse.move(canvas.x + 0.6 * canvas.width, canvas.y + y * canvas.height)
  await mask.mouse.down()
  await mask.mouse.move(canvas.x + 0.85 * canvas.width, canvas.y + y * canvas.height, { steps: 5 })
  await mask.mouse.up()
}
await keep(mask, 'page-mask')

const phone = await open({ colorScheme: 'dark', viewport: { width: 390, height: 800 }, isMobile: true, hasTouch: true })
await (await draw(phone, PROMPTS[3]))()
await phone.waitForTimeout(500)
await keep(phone, 'page-phone')

await browser.close()
await server.close()
