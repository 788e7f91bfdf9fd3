import { FluxError } from '../errors.js'
import type { Source } from '../formats/byte-source.js'
import type { Repository, RepositoryFile } from './repository.js'
import { hubFetch, type Requests } from './requests.js'

/** The minimum size of a request. Most headers are smaller. */
const PIECE = 1024 * 1024

/** A file on the hub that is read in pieces, without a download. This is enough for a header. */
export function remoteFile(
  { reference, commit }: Repository,
  { path, size }: RepositoryFile,
  requests: Requests,
): Source {
  const name = `${reference.text} (${path})`
  const parts = [reference.repository, 'resolve', commit, ...path.split('/').map(encodeURIComponent)]
  const url = `${requests.settings.endpoint}/${parts.join('/')}`
  const fetch = hubFetch(requests, name)
  let [piece, begin] = [Buffer.alloc(0), 0]
  return {
    path: name,
    size,
    async read(offset, length) {
      if (offset < begin || offset + length > begin + piece.length) {
        const end = Math.min(size, offset + Math.max(length, PIECE))
        const response = await fetch(url, { headers: { range: `bytes=${offset}-${end - 1}` } })
        piece = Buffer.from(await response.arrayBuffer())
        begin = offset
        if (piece.length !== end - offset) {
          throw new FluxError(
            'FLUX_DOWNLOAD',
            `${name}: ${piece.length} bytes came where ${end - offset} were requested. Try again`,
          )
        }
      }
      // the caller owns the returned buffer
      return Buffer.from(piece.subarray(offset - begin, offset - begin + length))
    },
  }
}
