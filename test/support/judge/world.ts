/** What can be on a picture of the tiny model's world (models/tiny/train/world.py). */

export type Rgb = readonly [r: number, g: number, b: number]

export const COLORS = {
  red: [220, 40, 40],
  orange: [245, 140, 30],
  yellow: [250, 215, 50],
  green: [50, 165, 70],
  cyan: [60, 200, 215],
  blue: [45, 85, 215],
  purple: [140, 60, 190],
  pink: [245, 135, 185],
  brown: [130, 80, 45],
  black: [25, 25, 28],
  gray: [135, 135, 140],
  white: [248, 248, 246],
} as const satisfies Record<string, Rgb>

export const BACKGROUNDS = {
  ...COLORS,
  'light blue': [175, 210, 245],
  'light green': [185, 230, 180],
  beige: [238, 224, 196],
  'dark blue': [22, 32, 84],
} as const satisfies Record<string, Rgb>

export const SHAPES = ['circle', 'square', 'triangle', 'star', 'ring', 'cross', 'heart', 'diamond'] as const

/** radius / the picture's shorter side */
export const SIZES = { small: 0.12, medium: 0.17, large: 0.24 } as const

export type ColorName = keyof typeof COLORS
export type BackgroundName = keyof typeof BACKGROUNDS
export type Shape = (typeof SHAPES)[number]
export type SizeName = keyof typeof SIZES
export type Relation = 'left of' | 'above'
/** of a gradient: where its second colour lies */
export type Direction = 'down' | 'right'

export const COLOR_NAMES = Object.keys(COLORS) as ColorName[]
export const BACKGROUND_NAMES = Object.keys(BACKGROUNDS) as BackgroundName[]
