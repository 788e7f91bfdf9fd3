import { Icon, type IconName } from './Icon.tsx'

interface Props {
  icon: IconName
  /** its name, which is shown as a tooltip */
  label: string
  /** shows the label next to the icon */
  isLabelled?: boolean
  isPressed?: boolean
  isDisabled?: boolean
  onClick: () => void
}

export function IconButton({ icon, label, isLabelled = false, isPressed, isDisabled, onClick }: Props) {
  return (
    <button
      type="button"
      class={isLabelled ? 'button' : 'button icon-only'}
      title={isLabelled ? undefined : label}
      aria-label={isLabelled ? undefined : label}
      aria-pressed={isPressed}
      disabled={isDisabled}
      onClick={onClick}
    >
      <Icon name={icon} />
      {isLabelled && label}
    </button>
  )
}
