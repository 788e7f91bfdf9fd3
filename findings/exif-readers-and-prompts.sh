#!/usr/bin/env bash
# exifr 7.1.3, ExifReader 4.46.0 and sharp 0.35.5, on the places where image generators store the prompt and its settings.
#
# JPEG and WebP carry them as EXIF UserComment, marked UNICODE, in UTF-16: neither reader gives the text. exifr returns the bytes, with the option
# userComment as well; ExifReader the constant text "[Unicode encoded text]". PNG carries them as tEXt, or as iTXt once a character is not in Latin-1:
# exifr takes tEXt for UTF-8, so that a letter such as é is lost, and does not see iTXt at all, without an error. ExifReader reads both, but a compressed
# iTXt only when it is called with { async: true }. sharp's metadata().comments has tEXt as UTF-8 too, and nothing of what follows the image data. A program that restores the settings has to read these places itself. Needs Node 20.15 (zlib.crc32).
set -euo pipefail
cd "$(mktemp -d)"
echo '{ "type": "module" }' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts exifr@7.1.3 exifreader@4.46.0 sharp@0.35.5 jpeg-js@0.4.4 > /dev/null
cat > check.mjs <<'JS'
import { crc32, deflateSync } from 'node:zlib'
import exifr from 'exifr'
import ExifReader from 'exifreader'
import jpeg from 'jpeg-js'
import sharp from 'sharp'

const plain = 'café\nSteps: 8'
const wide = 'café 狐\nSteps: 8'

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name), data])
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  sum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, sum])
}
const header = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0])
const pixels = chunk('IDAT', deflateSync(Buffer.from([0, 255, 0, 0])))
const png = (...chunks) =>
  Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    ...chunks,
    chunk('IEND', Buffer.alloc(0)),
  ])
const text = (name, ...data) => chunk(name, Buffer.concat(data))
const latin = text('tEXt', Buffer.from('parameters\0'), Buffer.from(plain, 'latin1'))

function photo(text) {
  const comment = Buffer.concat([Buffer.from('UNICODE\0'), Buffer.from(text, 'utf16le').swap16()])
  // big-endian TIFF: one entry that points to the EXIF directory, and there the comment
  const tiff = Buffer.alloc(44)
  tiff.write('MM')
  tiff.writeUInt16BE(42, 2)
  tiff.writeUInt32BE(8, 4)
  const entry = (at, tag, type, count, value) => {
    tiff.writeUInt16BE(1, at)
    tiff.writeUInt16BE(tag, at + 2)
    tiff.writeUInt16BE(type, at + 4)
    tiff.writeUInt32BE(count, at + 6)
    tiff.writeUInt32BE(value, at + 10)
  }
  entry(8, 0x8769, 4, 1, 26)
  entry(26, 0x9286, 7, comment.length, 44)
  const data = Buffer.concat([Buffer.from('Exif\0\0'), tiff, comment])
  const marker = Buffer.from([0xff, 0xe1, 0, 0])
  marker.writeUInt16BE(data.length + 2, 2)
  const image = jpeg.encode({ data: Buffer.alloc(8 * 8 * 4, 200), width: 8, height: 8 }, 90).data
  return Buffer.concat([image.subarray(0, 2), marker, data, image.subarray(2)])
}

const files = {
  'JPEG, UserComment': photo(wide),
  'PNG, tEXt': png(latin, pixels),
  'PNG, tEXt after the image data': png(pixels, latin),
  'PNG, iTXt': png(text('iTXt', Buffer.from('parameters\0\0\0\0\0'), Buffer.from(wide)), pixels),
  'PNG, compressed iTXt': png(text('iTXt', Buffer.from('parameters\0\x01\0\0\0'), deflateSync(Buffer.from(wide))), pixels),
}
const shown = (value) => (value instanceof Uint8Array ? `${value.length} bytes` : JSON.stringify(value) ?? 'nothing')
for (const [name, file] of Object.entries(files)) {
  const one = await exifr.parse(file, { userComment: true, ihdr: true, xmp: true, mergeOutput: true })
  const [sync, async] = [ExifReader.load(file), await ExifReader.load(file, { async: true })]
  const told = (tags) => shown((tags.parameters ?? tags.UserComment)?.description)
  const comments = (await sharp(file).metadata()).comments
  console.log(`${name}
  exifr ${shown(one?.parameters ?? one?.userComment)}
  ExifReader ${told(sync)}, async ${told(async)}
  sharp ${shown(comments?.[0].text)}`)
}
JS
node check.mjs | tee seen.txt
diff seen.txt - <<'SEEN'
JPEG, UserComment
  exifr 38 bytes
  ExifReader "[Unicode encoded text]", async "[Unicode encoded text]"
  sharp nothing
PNG, tEXt
  exifr "caf�\nSteps: 8"
  ExifReader "café\nSteps: 8", async "café\nSteps: 8"
  sharp "caf�\nSteps: 8"
PNG, tEXt after the image data
  exifr "caf�\nSteps: 8"
  ExifReader "café\nSteps: 8", async "café\nSteps: 8"
  sharp nothing
PNG, iTXt
  exifr nothing
  ExifReader "café 狐\nSteps: 8", async "café 狐\nSteps: 8"
  sharp "café 狐\nSteps: 8"
PNG, compressed iTXt
  exifr nothing
  ExifReader nothing, async "café 狐\nSteps: 8"
  sharp "café 狐\nSteps: 8"
SEEN
