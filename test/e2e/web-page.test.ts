import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import axe, { type AxeResults } from 'axe-core'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'
import sharp from 'sharp'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { readParameters } from '../../lib/index.js'

// The page of `ggflux serve` in a real browser, with the tiny model.
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** Starts the server. Resolves with its address once it listens. */
async function serve(...options: string[]): Promise<{ url: string; server: ChildProcess }> {
  const server = spawn(process.execPath, [MAIN, 'serve', '--port', '0', ...options], { stdio: 'pipe' })
  let output = ''
  return new Promise((resolve, reject) => {
    const read = (text: Buffer) => {
      output += text
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(output)?.[0]
      if (url) resolve({ url, server })
    }
    server.stdout.on('data', read)
    server.stderr.on('data', read)
    server.on('exit', () => reject(new Error(`the server ended: ${output}`)))
  })
}

async function end(server: ChildProcess | undefined): Promise<void> {
  if (server?.exitCode === null && server.kill()) await once(server, 'exit')
}

const executablePath = findChromium()
if (!executablePath) console.log('skipped: the web page (there is no chromium; CHROMIUM may name it)')

function findChromium(): string | undefined {
  const { CHROMIUM } = process.env
  if (CHROMIUM) return CHROMIUM
  const found = ['chromium', 'chromium-browser', 'google-chrome'].map((name) =>
    spawnSync('which', [name], { encoding: 'utf8' }).stdout?.trim(),
  )
  return ['/usr/bin/chromium', ...found].find((path) => path && existsSync(path))
}

// a browser and a server on two processors, next to other tests
describe.skipIf(!executablePath)('the web page', { timeout: 180_000 }, () => {
  let url: string
  let server: ChildProcess
  let browser: Browser
  /** what no page may do: errors, violations of its security policy, requests to others */
  let faults: string[] = []

  beforeAll(async () => {
    ;[{ url, server }, browser] = await Promise.all([
      serve(),
      chromium.launch({ executablePath, args: ['--no-sandbox'] }),
    ])
  })

  afterAll(async () => {
    await browser?.close()
    await end(server)
  })

  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()))
    const found = faults
    faults = []
    expect(found).toEqual([])
  })

  /** A browser without a past, on the server's page. */
  async function visit(address: string, options: BrowserContextOptions = {}): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
    const page = await context.newPage()
    page.setDefaultTimeout(60_000)
    page.on('pageerror', (error) => faults.push(String(error)))
    page.on('console', (message) => {
      // a violation of the security policy is an error here, too
      if (message.type() === 'error' || message.type() === 'warning') faults.push(message.text())
    })
    page.on('request', (request) => {
      if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== address) faults.push(request.url())
    })
    await page.goto(address)
    return page
  }

  async function open(options: BrowserContextOptions = {}): Promise<Page> {
    const page = await visit(url, options)
    await page.getByRole('button', { name: 'Draw', exact: true }).waitFor()
    return page
  }

  const prompt = (page: Page) => page.getByRole('textbox', { name: 'Prompt', exact: true })
  const number = (page: Page, name: string) => page.getByRole('spinbutton', { name, exact: true })
  const tiles = (page: Page) => page.getByRole('region', { name: 'Gallery' }).getByRole('listitem')

  async function draw(page: Page, text: string): Promise<void> {
    const before = await tiles(page).count()
    await prompt(page).fill(text)
    await prompt(page).press('Control+Enter')
    await tiles(page).nth(before).waitFor()
  }

  /** The file of the image on the stage. */
  async function download(page: Page): Promise<Buffer> {
    const downloading = page.waitForEvent('download')
    await page.getByRole('link', { name: 'Download' }).click()
    return readFileSync(await (await downloading).path())
  }

  const pixels = async (file: Buffer) => sharp(file).removeAlpha().raw().toBuffer()

  /** Drops a file into the middle of the page. */
  async function drop(page: Page, file: Buffer): Promise<void> {
    const base64 = JSON.stringify(file.toString('base64'))
    const dataTransfer = await page.evaluateHandle(`(() => {
      const bytes = Uint8Array.from(atob(${base64}), (character) => character.charCodeAt(0))
      const data = new DataTransfer()
      data.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }))
      return data
    })()`)
    await page.dispatchEvent('main', 'drop', { dataTransfer })
  }

  async function paintMask(page: Page): Promise<void> {
    await page.getByRole('button', { name: 'Paint mask' }).click()
    const canvas = page.getByRole('application', { name: 'Mask over the image' })
    await number(page, 'Size').fill('40')
    const box = (await canvas.boundingBox())!
    const move = (x: number, y: number) => page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: 5 })
    await move(0.25, 0.25)
    await page.mouse.down()
    await move(0.25, 0.75)
    await page.mouse.up()
  }

  async function violations(page: Page): Promise<string[]> {
    // evaluated through the debugger, which the security policy does not bind
    await page.evaluate(axe.source)
    const results = (await page.evaluate('axe.run()')) as AxeResults
    return results.violations.flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
    )
  }

  test('draws a prompt, with previews on the way', async () => {
    const page = await open()
    await number(page, 'Steps').fill('50')
    await prompt(page).fill('a large red circle on a white background')
    await prompt(page).press('Control+Enter')
    await page.getByRole('img', { name: /^Preview: a large red circle/ }).waitFor()
    await page.getByRole('progressbar').first().waitFor()
    await tiles(page).first().waitFor()
    const image = await download(page)
    expect((await readParameters(image))?.options).toMatchObject({
      prompt: 'a large red circle on a white background',
      steps: 50,
    })
    const [red, green, blue] = (await pixels(image)).subarray(3 * (64 * 128 + 64))
    expect(red).toBeGreaterThan(150)
    expect(green).toBeLessThan(100)
    expect(blue).toBeLessThan(100)

    // all of it is there after a reload
    await page.reload()
    await tiles(page).first().waitFor()
    expect(await prompt(page).inputValue()).toBe('a large red circle on a white background')
    expect(await number(page, 'Steps').inputValue()).toBe('50')
  })

  test('cancels what runs and what waits', async () => {
    const page = await open()
    const queue = page.getByRole('region', { name: 'Queue' }).getByRole('listitem')
    await number(page, 'Steps').fill('100')
    await number(page, 'Images').fill('10')
    await prompt(page).fill('a blue star')
    await prompt(page).press('Control+Enter')
    await page
      .getByText(/step \d+ of 100/)
      .first()
      .waitFor()
    await page.getByRole('button', { name: 'Draw', exact: true }).click()
    await page.getByText('Waiting, 1 job ahead').first().waitFor()
    await page.getByRole('region', { name: 'Image', exact: true }).getByRole('button', { name: 'Cancel' }).click()
    await queue.nth(1).waitFor({ state: 'detached' })
    await page.keyboard.press('Escape')
    await queue.first().waitFor({ state: 'detached' })
    expect(await page.getByText('Cancelled.').count()).toBe(1)
  })

  test('draws anew what is masked, and nothing else', async () => {
    const page = await open()
    await draw(page, 'a green cross on a white background')
    const before = await pixels(await download(page))
    await page.getByRole('button', { name: 'Use as input image' }).click()
    await paintMask(page)
    await page.getByRole('button', { name: 'Undo' }).click()
    expect(await page.getByRole('button', { name: 'Undo' }).isDisabled()).toBe(true)
    await page.getByRole('button', { name: 'Redo' }).click()
    await page.getByRole('button', { name: 'Done' }).click()
    await number(page, 'Mask blur').fill('0')
    await number(page, 'Strength').fill('1')
    await draw(page, 'a large black square on a black background')
    const after = await pixels(await download(page))

    const changed = (left: number) => {
      let count = 0
      for (let y = 0; y < 128; y++)
        for (let x = left; x < left + 48; x++) {
          const at = 3 * (128 * y + x)
          if (Math.abs(before[at]! - after[at]!) > 30) count++
        }
      return count
    }
    expect(changed(8)).toBeGreaterThan(1000)
    expect(changed(64)).toBe(0)
  })

  test('restores the settings of an image that is dropped', async () => {
    const page = await open()
    await page.getByRole('button', { name: /^16:9/ }).click()
    await number(page, 'Guidance').fill('3.5')
    await draw(page, 'a yellow heart on a dark blue background')
    const image = await download(page)
    await page.getByRole('button', { name: 'Reset all settings' }).click()
    await prompt(page).fill('something else')
    await drop(page, image)
    await page.getByRole('button', { name: 'Restore its settings' }).click()
    expect(await prompt(page).inputValue()).toBe('a yellow heart on a dark blue background')
    expect(await number(page, 'Guidance').inputValue()).toBe('3.5')
    expect(await number(page, 'Width').inputValue()).toBe('176')
    expect(await page.getByRole('button', { name: 'Keep the seed' }).getAttribute('aria-pressed')).toBe('true')
    await draw(page, await prompt(page).inputValue())
    expect(await pixels(await download(page))).toEqual(await pixels(image))
  })

  describe('has no barrier that axe finds', () => {
    test.each<[string, BrowserContextOptions]>([
      ['in light', { colorScheme: 'light' }],
      ['in dark', { colorScheme: 'dark' }],
      ['on a phone', { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
    ])('%s', async (_, options) => {
      const page = await open(options)
      expect(await violations(page)).toEqual([])
      await draw(page, 'a purple ring')
      await page.getByRole('button', { name: 'Use as input image' }).click()
      await page.getByText('Sampler and file').click()
      await page.getByText('Parameters', { exact: true }).click()
      await paintMask(page)
      expect(await violations(page)).toEqual([])
      await page.getByRole('button', { name: 'Done' }).click()
      await page.getByRole('button', { name: 'Remove mask' }).waitFor()
      expect(await violations(page)).toEqual([])
      await drop(page, await download(page))
      await page.getByRole('button', { name: 'Restore its settings' }).waitFor()
      expect(await violations(page)).toEqual([])
      await page.keyboard.press('Escape')
      await prompt(page).fill('')
      await prompt(page).press('Control+Enter')
      await page.getByRole('alert').waitFor()
      expect(await violations(page)).toEqual([])
      const widths = await page.evaluate('[document.documentElement.scrollWidth, innerWidth]')
      expect(widths).toEqual([options.viewport?.width ?? 1280, options.viewport?.width ?? 1280])
    })
  })

  test('keeps the choice of dark or light', async () => {
    const page = await open({ colorScheme: 'light' })
    const background = () => page.evaluate('getComputedStyle(document.documentElement).backgroundColor')
    const light = await background()
    await page.getByRole('button', { name: /^Colours: system/ }).click()
    await page.getByRole('button', { name: /^Colours: light/ }).click()
    const dark = await background()
    expect(dark).not.toBe(light)
    await page.reload()
    expect(await background()).toBe(dark)
  })

  test('asks for the API key, and keeps it', async () => {
    const locked = await serve('--api-key', 'open-sesame')
    try {
      const page = await visit(locked.url)
      const key = page.getByLabel('Key', { exact: true })
      await key.fill('wrong')
      await key.press('Enter')
      await page.getByText('The server refuses this key').waitFor()
      await key.fill('open-sesame')
      await key.press('Enter')
      await draw(page, 'a green star')
      await page.reload()
      await page.getByRole('button', { name: 'Draw', exact: true }).waitFor()
      // the browser logs each refusal; nothing else may go wrong
      faults = faults.filter((fault) => !/status of 401/.test(fault))
    } finally {
      await end(locked.server)
    }
  })
})
