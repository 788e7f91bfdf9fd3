import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef } from 'preact/hooks'
import { IconButton } from './IconButton.tsx'

interface Props {
  title: string
  class?: string
  onClose: () => void
  onKeyDown?: (event: KeyboardEvent) => void
  children: ComponentChildren
}

/** A modal dialog. Esc and the button at its top close it. */
export function Dialog({ title, class: className = '', onClose, onKeyDown, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => dialog.current!.showModal(), [])
  return (
    <dialog
      ref={dialog}
      class={`dialog ${className}`}
      aria-labelledby={id}
      onKeyDown={onKeyDown}
      onCancel={(event) => {
        event.preventDefault()
        onClose()
      }}
    >
      <h2 id={id}>{title}</h2>
      {children}
      {/* last, so that the first control of the content has the focus */}
      <IconButton icon="close" label="Close" onClick={onClose} />
    </dialog>
  )
}
