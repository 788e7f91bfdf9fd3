import { useEffect, useState } from 'preact/hooks'
import { request } from '../server/request.ts'
import type { Parameters } from '../server/wire.ts'
import { dataUri } from '../images/data-uri.ts'
import { notifyError } from '../state/notices.ts'
import type { Chosen } from '../state/settings.ts'
import { DropDialog, type DroppedImage } from './DropDialog.tsx'
import { imageAmong } from './image-among.ts'

/** Takes images that are dropped or pasted anywhere, and asks what for. */
export function DropTarget({ choice }: { choice: Chosen }) {
  const [isOver, setOver] = useState(false)
  const [dropped, setDropped] = useState<DroppedImage | null>(null)

  useEffect(() => {
    /** an image of the page itself is dragged, perhaps to the desktop */
    let isOwn = false
    const offer = (file: File) => {
      read(file).then((parameters) => setDropped({ file, parameters }), notifyError)
    }
    const listeners: Partial<Record<keyof WindowEventMap, (event: never) => void>> = {
      dragstart: () => (isOwn = true),
      dragend: () => (isOwn = false),
      dragover: (event: DragEvent) => {
        if (isOwn || !event.dataTransfer?.types.includes('Files')) return
        event.preventDefault()
        setOver(true)
      },
      dragleave: (event: DragEvent) => {
        if (!event.relatedTarget) setOver(false)
      },
      drop: (event: DragEvent) => {
        setOver(false)
        // a slot has taken it
        if (isOwn || event.defaultPrevented) return
        event.preventDefault()
        const file = imageAmong(event.dataTransfer)
        if (file) offer(file)
        else if (event.dataTransfer?.files.length) notifyError('This file is no image. Drop a PNG, JPEG or WebP.')
      },
      paste: (event: ClipboardEvent) => {
        const file = imageAmong(event.clipboardData)
        // text from an office program comes with an image of itself
        if (!file || event.clipboardData!.types.includes('text/plain')) return
        event.preventDefault()
        offer(file)
      },
    }
    const entries = Object.entries(listeners) as [string, EventListener][]
    for (const [type, listener] of entries) addEventListener(type, listener)
    return () => {
      for (const [type, listener] of entries) removeEventListener(type, listener)
    }
  }, [])

  return (
    <>
      {isOver && <div class="drop-hint">Drop the image to restore its settings, or to use it</div>}
      {dropped && <DropDialog dropped={dropped} choice={choice} onClose={() => setDropped(null)} />}
    </>
  )
}

/** @returns null if the image does not say how it was made */
async function read(file: File): Promise<Parameters | null> {
  const response = await request('v1/parameters', { method: 'POST', body: { image: await dataUri(file) } })
  const parameters: Parameters = await response.json()
  return parameters.writer === null ? null : parameters
}
