import { FluxError } from '../errors.js'

/** A location on the hub: `hf:owner/name`, `hf:owner/name:Q4_K_S`, `hf:owner/name@revision:folder/file.safetensors`. */
export interface Reference {
  /** the original text */
  text: string
  /** `owner/name` */
  repository: string
  /** branch, tag or commit */
  revision: string
  /** a file's path or name, or a quantisation that is part of its name */
  which?: string
}

const REFERENCE = /^hf:([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?(?::(.+))?$/

export function isReference(text: string): boolean {
  return text.startsWith('hf:')
}

/** @throws {FluxError} FLUX_BAD_OPTION */
export function parseReference(text: string): Reference {
  const [, repository, revision = 'main', which] = REFERENCE.exec(text) ?? []
  const sound =
    repository !== undefined &&
    !/(^|[/.])\.|\.\.|--/.test(repository) &&
    isSafePath(revision) &&
    (which === undefined || isSafePath(which))
  if (!sound) {
    throw new FluxError(
      'FLUX_BAD_OPTION',
      `'${text}' names nothing on the hub: give hf:owner/name, hf:owner/name:Q4_K_S or hf:owner/name@revision:folder/file.safetensors`,
    )
  }
  return { text, repository, revision, ...(which === undefined ? {} : { which }) }
}

/** Whether a path with / as separator stays below the folder it is joined to, on every operating system. */
export function isSafePath(path: string): boolean {
  return (
    path.length <= 1024 &&
    !/[\\:\0]/.test(path) &&
    path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  )
}
