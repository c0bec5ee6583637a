/** Components: Preact with htm, from one place. */
import { Fragment, createElement, render } from "../../vendor/preact.js";
import {
  useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
} from "../../vendor/hooks.js";
import htm from "../../vendor/htm.js";

export const html = htm.bind(createElement);
export {
  Fragment, render, useCallback, useEffect, useErrorBoundary, useId, useLayoutEffect, useMemo, useReducer, useRef, useState,
};
