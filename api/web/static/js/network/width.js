/** The width of a box, followed. */
import { useLayoutEffect, useRef, useState } from "../core/ui.js";

/** [ref, px]; 0 before it is known. */
export function useWidth() {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const look = () => setWidth(Math.floor(box.current?.clientWidth ?? 0));
    look();
    const seen = new ResizeObserver(look);
    seen.observe(box.current);
    return () => seen.disconnect();
  }, []);
  return [box, width];
}
