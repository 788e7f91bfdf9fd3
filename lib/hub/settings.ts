import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { badOption, requireOptions } from '../options/checks.js'

/**
 * How models are downloaded from the hub. Options that are not set come from the environment variables that all of
 * Hugging Face's tools use.
 */
export interface HubOptions {
  /** folder of the cache @default HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub */
  cacheDir?: string
  /** for models with a licence to accept @default HF_TOKEN, else the token stored by `hf auth login` */
  token?: string
  /** @default HF_ENDPOINT, else https://huggingface.co */
  endpoint?: string
  /** makes no requests; a file that is not in the cache is an error @default HF_HUB_OFFLINE */
  offline?: boolean
}

export interface HubSettings {
  cacheDir: string
  token: string | undefined
  /** without a trailing slash */
  endpoint: string
  offline: boolean
}

const OPTIONS = ['cacheDir', 'token', 'endpoint', 'offline'] as const satisfies readonly (keyof HubOptions)[]

/** @throws {FluxError} FLUX_BAD_OPTION */
export function checkHubOptions(options: HubOptions): void {
  requireOptions('hub', options, OPTIONS)
  const { cacheDir, token, endpoint, offline } = options
  if (cacheDir !== undefined && (typeof cacheDir !== 'string' || cacheDir === ''))
    throw badOption('hub.cacheDir', cacheDir, 'a folder')
  if (token !== undefined && !isToken(token)) throw badOption('hub.token', '…', "an access token of the hub, 'hf_…'")
  if (endpoint !== undefined && !isEndpoint(endpoint)) throw badOption('hub.endpoint', endpoint, 'an http or https URL')
  if (offline !== undefined && typeof offline !== 'boolean') throw badOption('hub.offline', offline, 'true or false')
}

/** The settings of a call: from its options, then from the environment, then the defaults. */
export async function hubSettings(
  options: HubOptions = {},
  env: NodeJS.ProcessEnv = process.env,
): Promise<HubSettings> {
  checkHubOptions(options)
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  const endpoint = options.endpoint ?? (env.HF_ENDPOINT || 'https://huggingface.co')
  if (!isEndpoint(endpoint)) throw badOption('HF_ENDPOINT', endpoint, 'an http or https URL')
  const token = env.HF_TOKEN?.trim() || undefined
  if (token !== undefined && !isToken(token))
    throw badOption('HF_TOKEN', 'a text with spaces or signs', "an access token of the hub, 'hf_…'")
  return {
    cacheDir: options.cacheDir ?? (env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub')),
    token: options.token ?? token ?? (await storedToken(env.HF_TOKEN_PATH || join(home, 'token'))),
    endpoint: endpoint.replace(/\/+$/, ''),
    offline: options.offline ?? /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? ''),
  }
}

async function storedToken(path: string): Promise<string | undefined> {
  const token = (await readFile(path, 'utf8').catch(() => '')).trim()
  return isToken(token) ? token : undefined
}

/** Visible characters only, so that it is valid in a header. */
function isToken(token: unknown): token is string {
  return typeof token === 'string' && /^[\x21-\x7e]+$/.test(token)
}

function isEndpoint(endpoint: unknown): endpoint is string {
  return typeof endpoint === 'string' && URL.canParse(endpoint) && /^https?:$/.test(new URL(endpoint).protocol)
}
