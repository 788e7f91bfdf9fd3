import { basename, resolve } from 'node:path'
import type { ModelFiles } from '../families/registry.js'
import { isOnHub } from '../hub/plan.js'
import type { HubOptions } from '../hub/settings.js'
import { resolveSource } from '../pipeline/open-model.js'
import type { ModelCatalogue } from './model-catalogue.js'

/**
 * Finds the model that the operator of a server named: a name in the catalogue, or what `load` takes. One on the hub is
 * downloaded.
 *
 * @returns the name that clients see, and the model for the catalogue if it is not in it
 * @throws {FluxError} as `ImagePipeline.load`
 */
export async function pulledModels(
  source: string,
  catalogue: ModelCatalogue,
  hub: HubOptions = {},
  onProgress?: (done: number, total: number) => void,
): Promise<{ name: string; models: Record<string, ModelFiles> }> {
  if ((await catalogue.models()).has(source)) return { name: source, models: {} }
  const files = await resolveSource(source, { ...hub, ...(onProgress ? { onProgress } : {}) })
  const name = isOnHub(source) ? source : basename(resolve(source)).replace(/\.(gguf|safetensors|sft)$/i, '')
  return { name, models: { [name]: files } }
}
