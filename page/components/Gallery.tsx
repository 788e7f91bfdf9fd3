import { useState } from 'preact/hooks'
import { emptyGallery, gallery, galleryBytes, MOST_BYTES, MOST_IMAGES, type GalleryImage } from '../state/gallery.ts'
import { selectedId } from '../state/selection.ts'
import { shownImage } from '../state/shown.ts'
import { counted, fileSize } from '../state/words.ts'
import { Dialog } from './Dialog.tsx'
import { IconButton } from './IconButton.tsx'
import { useObjectUrl } from './use-object-url.ts'

/** The images that this browser keeps. */
export function Gallery() {
  const [isEmptying, setEmptying] = useState(false)
  const images = gallery.value
  const empty = () => {
    setEmptying(false)
    void emptyGallery()
  }
  return (
    <section class="gallery" aria-label="Gallery">
      <header>
        <h2>Gallery</h2>
        {images.length > 0 && <IconButton icon="trash" label="Delete all images" onClick={() => setEmptying(true)} />}
      </header>
      {images.length === 0 ? (
        <p class="hint">What you draw is kept here, in this browser.</p>
      ) : (
        <>
          <ul class="tiles">
            {images.map((image) => (
              <li key={image.id}>
                <Tile image={image} />
              </li>
            ))}
          </ul>
          <p class="hint">
            {counted(images.length, 'image')}, {fileSize(galleryBytes.value)}, kept in this browser. Beyond{' '}
            {MOST_IMAGES} images or {MOST_BYTES / 1e6} MB the oldest are deleted.
          </p>
        </>
      )}
      {isEmptying && (
        <Dialog title="Delete all images?" onClose={() => setEmptying(false)}>
          <p>{counted(images.length, 'image')} will be deleted from this browser. This cannot be undone.</p>
          <footer>
            <button type="button" class="button" onClick={() => setEmptying(false)}>
              Keep them
            </button>
            <button type="button" class="button danger" onClick={empty}>
              Delete all
            </button>
          </footer>
        </Dialog>
      )}
    </section>
  )
}

function Tile({ image: { id, thumbnail, settings } }: { image: GalleryImage }) {
  const url = useObjectUrl(thumbnail)
  return (
    <button
      type="button"
      class="tile"
      aria-current={id === shownImage.value?.id}
      onClick={() => (selectedId.value = id)}
    >
      <img src={url} alt={`${settings.prompt}, seed ${settings.seed}`} draggable={false} />
    </button>
  )
}
