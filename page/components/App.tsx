import { chosen } from '../state/settings.ts'
import { Announcer } from './Announcer.tsx'
import { DropTarget } from './DropTarget.tsx'
import { Gallery } from './Gallery.tsx'
import { Header } from './Header.tsx'
import { KeyDialog } from './KeyDialog.tsx'
import { Notices } from './Notices.tsx'
import { PromptPanel } from './PromptPanel.tsx'
import { Queue } from './Queue.tsx'
import { SettingsPanel } from './SettingsPanel.tsx'
import { Stage } from './Stage.tsx'
import { Unconnected } from './Unconnected.tsx'
import { useKeys } from './use-keys.ts'

export function App() {
  useKeys()
  const choice = chosen.value
  return (
    <>
      <Header choice={choice} />
      {choice ? (
        <main class="layout">
          <PromptPanel choice={choice} />
          <Stage choice={choice} />
          <SettingsPanel choice={choice} />
          <aside class="history" aria-label="Queue and gallery">
            <Queue />
            <Gallery />
          </aside>
          <DropTarget choice={choice} />
        </main>
      ) : (
        <Unconnected />
      )}
      <Notices />
      <Announcer />
      <KeyDialog />
    </>
  )
}
