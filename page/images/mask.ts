/** One act of the mask editor. Coordinates and sizes are pixels of the image. */
export type MaskEdit =
  | { kind: 'stroke'; isErasing: boolean; size: number; points: Point[] }
  | { kind: 'clear' }
  | { kind: 'invert' }

export type Point = readonly [x: number, y: number]

/** What is drawn anew. Its edits are kept, so that it can be changed and undone later. */
export interface Mask {
  /** a PNG of the image's size, white where the image is drawn anew */
  file: Blob
  edits: MaskEdit[]
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D

/** Paints an edit. Where the canvas is opaque, the image is drawn anew. */
export function applyEdit(context: Context, edit: MaskEdit): void {
  const { width, height } = context.canvas
  if (edit.kind === 'stroke') return paintStroke(context, edit)
  if (edit.kind === 'clear') return context.clearRect(0, 0, width, height)
  context.globalCompositeOperation = 'source-out'
  context.fillRect(0, 0, width, height)
}

function paintStroke(context: Context, { isErasing, size, points }: MaskEdit & { kind: 'stroke' }): void {
  context.globalCompositeOperation = isErasing ? 'destination-out' : 'source-over'
  context.lineWidth = size
  context.lineCap = 'round'
  context.lineJoin = 'round'
  context.beginPath()
  const [first, ...others] = points
  context.moveTo(...first!)
  // a line to where it begins is a dot
  for (const point of others.length > 0 ? others : points) context.lineTo(...point)
  context.stroke()
}

/** @returns null if nothing is masked */
export async function renderMask(edits: MaskEdit[], width: number, height: number): Promise<Mask | null> {
  const canvas = new OffscreenCanvas(width, height)
  const context = canvas.getContext('2d', { willReadFrequently: true })!
  context.fillStyle = context.strokeStyle = '#fff'
  for (const edit of edits) applyEdit(context, edit)
  const { data } = context.getImageData(0, 0, width, height)
  if (!data.some((value, index) => index % 4 === 3 && value > 0)) return null
  context.globalCompositeOperation = 'destination-over'
  context.fillStyle = '#000'
  context.fillRect(0, 0, width, height)
  return { file: await canvas.convertToBlob(), edits }
}
