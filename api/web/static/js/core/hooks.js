/** What a view follows beside its data: the time, and the size of the window. */
import { useEffect, useState } from "./ui.js";

/** Renders again now and then, so that what is told as "3 min ago" stays true. */
export function useTick(every_ms = 30_000) {
  const [, tick] = useState(0);
  useEffect(() => {
    const ticking = setInterval(() => !document.hidden && tick((count) => count + 1), every_ms);
    return () => clearInterval(ticking);
  }, []);
}

/** Whether a media query holds, followed. */
export function useMedia(query) {
  const [holds, setHolds] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const look = () => setHolds(media.matches);
    look();
    media.addEventListener("change", look);
    return () => media.removeEventListener("change", look);
  }, [query]);
  return holds;
}
