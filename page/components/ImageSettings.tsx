import { useState } from 'preact/hooks'
import { controlImage, image, mask, references, setImage } from '../state/inputs.ts'
import { defaultStrength } from '../state/job-request.ts'
import { loadInput } from '../state/load-input.ts'
import { change, settings, type Chosen } from '../state/settings.ts'
import { IconButton } from './IconButton.tsx'
import { ImageSlot } from './ImageSlot.tsx'
import { MaskEditor } from './MaskEditor.tsx'
import { Slider } from './Slider.tsx'

export function ImageSettings({ choice }: { choice: Chosen }) {
  const { reads } = choice.model
  return (
    <>
      {reads === 'control' && (
        <fieldset class="group">
          <legend>Control image</legend>
          <ImageSlot
            label="Add an image of edges or depth"
            image={controlImage.value}
            onFile={(file) => loadInput(file, choice, (loaded) => (controlImage.value = loaded))}
            onRemove={() => (controlImage.value = null)}
          />
        </fieldset>
      )}
      <fieldset class="group">
        <legend>Image</legend>
        <ImageSlot
          label="Add an image to start from"
          image={image.value}
          mask={mask.value}
          onFile={(file) => loadInput(file, choice, setImage)}
          onRemove={() => setImage(null)}
        />
        {image.value && <InputSettings choice={choice} />}
      </fieldset>
      {reads === 'references' && (
        <fieldset class="group">
          <legend>Reference images</legend>
          {references.value.map((reference) => (
            <ImageSlot
              key={reference}
              label="Reference image"
              image={reference}
              onFile={(file) =>
                loadInput(file, choice, (loaded) => {
                  references.value = references.value.map((other) => (other === reference ? loaded : other))
                })
              }
              onRemove={() => (references.value = references.value.filter((other) => other !== reference))}
            />
          ))}
          <ImageSlot
            label="Add an image to refer to"
            image={null}
            onFile={(file) => loadInput(file, choice, (loaded) => (references.value = [...references.value, loaded]))}
          />
        </fieldset>
      )}
    </>
  )
}

/** How the input image is changed, and where. */
function InputSettings({ choice: { model } }: { choice: Chosen }) {
  const [isMasking, setMasking] = useState(false)
  const { strength, maskBlur, isOnlyMasked } = settings.value
  return (
    <>
      <Slider
        label="Strength"
        hint="How much of the image changes."
        least={0.05}
        most={1}
        step={0.05}
        value={strength ?? defaultStrength(model)}
        onChange={(value) => change({ strength: value })}
      />
      <div class="buttons">
        <IconButton
          icon="brush"
          label={mask.value ? 'Edit mask' : 'Paint mask'}
          isLabelled
          onClick={() => setMasking(true)}
        />
        {mask.value && <IconButton icon="close" label="Remove mask" isLabelled onClick={() => (mask.value = null)} />}
      </div>
      {mask.value && (
        <>
          <Slider
            label="Mask blur"
            least={0}
            most={256}
            usualMost={64}
            step={1}
            value={maskBlur}
            onChange={(value) => change({ maskBlur: value })}
          />
          <label class="check">
            <input
              type="checkbox"
              checked={isOnlyMasked}
              onChange={(event) => change({ isOnlyMasked: event.currentTarget.checked })}
            />
            <span>Only masked: draw the masked part larger, and paste it back</span>
          </label>
        </>
      )}
      {isMasking && <MaskEditor image={image.value!} onClose={() => setMasking(false)} />}
    </>
  )
}
