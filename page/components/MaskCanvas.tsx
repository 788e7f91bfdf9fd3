import { useLayoutEffect, useRef } from 'preact/hooks'
import type { InputImage } from '../images/input-image.ts'
import { applyEdit, type MaskEdit, type Point } from '../images/mask.ts'
import { shownSize } from './shown-size.ts'
import { useObjectUrl } from './use-object-url.ts'

interface Props {
  image: InputImage
  edits: MaskEdit[]
  /** of the brush, in pixels of the image */
  size: number
  isErasing: boolean
  onStroke: (points: Point[]) => void
}

/** The image under its mask, with a brush for mouse, pen, finger and keyboard. */
export function MaskCanvas({ image, edits, size, isErasing, onStroke }: Props) {
  const { width, height } = image
  const url = useObjectUrl(image.file)
  const canvas = useRef<HTMLCanvasElement>(null)
  const brush = useRef<HTMLDivElement>(null)
  const position = useRef<Point>([width / 2, height / 2])
  /** the stroke that is being painted */
  const stroke = useRef<Point[] | null>(null)

  useLayoutEffect(() => {
    const context = canvas.current!.getContext('2d')!
    // a change of the theme or another mask takes no part here: only its opacity counts
    context.fillStyle = context.strokeStyle = getComputedStyle(canvas.current!).color
    context.clearRect(0, 0, width, height)
    for (const edit of edits) applyEdit(context, edit)
  }, [edits, width, height])

  useLayoutEffect(() => showBrush())

  const showBrush = () => {
    const [x, y] = position.current
    const { style } = brush.current!
    style.width = `${(100 * size) / width}%`
    style.left = `${(100 * x) / width}%`
    style.top = `${(100 * y) / height}%`
  }
  const moveTo = (point: Point) => {
    const from = position.current
    position.current = point
    showBrush()
    if (!stroke.current) return
    stroke.current.push(point)
    applyEdit(canvas.current!.getContext('2d')!, { kind: 'stroke', isErasing, size, points: [from, point] })
  }
  const putDown = (point: Point) => {
    position.current = point
    stroke.current = []
    moveTo(point)
  }
  const lift = () => {
    if (stroke.current) onStroke(stroke.current)
    stroke.current = null
  }

  const at = ({ clientX, clientY }: PointerEvent): Point => {
    const box = canvas.current!.getBoundingClientRect()
    return [((clientX - box.left) * width) / box.width, ((clientY - box.top) * height) / box.height]
  }
  const press = (event: KeyboardEvent) => {
    const [x, y] = position.current
    const step = event.shiftKey ? size : Math.max(1, size / 4)
    const moves: Record<string, Point> = {
      ArrowLeft: [x - step, y],
      ArrowRight: [x + step, y],
      ArrowUp: [x, y - step],
      ArrowDown: [x, y + step],
    }
    const to = moves[event.key]
    if (event.key === ' ') {
      if (stroke.current) lift()
      else putDown(position.current)
    } else if (to) moveTo([Math.min(width, Math.max(0, to[0])), Math.min(height, Math.max(0, to[1]))])
    else return
    event.preventDefault()
  }

  return (
    <div class="mask-frame">
      <div class="mask-image" style={shownSize(width, height)}>
        <img src={url} alt="" />
        {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: its keys paint, so screen readers must pass them on */}
        <canvas
          ref={canvas}
          width={width}
          height={height}
          role="application"
          aria-label="Mask over the image"
          tabIndex={0}
          onKeyDown={press}
          onBlur={lift}
          onPointerDown={(event) => {
            if (!event.isPrimary || event.button !== 0) return
            canvas.current!.setPointerCapture(event.pointerId)
            putDown(at(event))
          }}
          onPointerMove={(event) => {
            if (!event.isPrimary) return
            for (const part of event.getCoalescedEvents()) moveTo(at(part))
          }}
          onPointerUp={lift}
          onPointerCancel={lift}
        />
        <div ref={brush} class="brush" aria-hidden="true" />
      </div>
    </div>
  )
}
