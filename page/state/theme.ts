import { effect } from '@preact/signals'
import { stored } from './stored.ts'

export type Theme = 'system' | 'light' | 'dark'

export const THEMES: readonly Theme[] = ['system', 'light', 'dark']

export const theme = stored<Theme>('ggflux.theme', 'system')

effect(() => {
  document.documentElement.dataset.theme = theme.value
})
